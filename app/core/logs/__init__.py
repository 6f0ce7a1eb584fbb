"""What is logged and remembered, and what is masked in it?"""
