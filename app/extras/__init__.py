"""What can go? Each folder adds one thing, and leaves with its tests."""
