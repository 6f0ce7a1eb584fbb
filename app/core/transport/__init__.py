"""How do requests travel? Connections, deadlines, and what their failures mean."""
