"""What is the template's? You update it, and do not edit it."""
