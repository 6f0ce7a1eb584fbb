"""Adds secrets from CyberArk Conjur."""
