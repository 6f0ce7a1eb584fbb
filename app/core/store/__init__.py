"""Which secrets are held, and how do they stay fresh?"""
