"""What does the service answer over HTTP?"""
