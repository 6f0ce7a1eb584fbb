"""What does every service answer over HTTP, whatever it is about?"""
