"""The papers' studies of the tokens themselves: importance against diversity, angles between
tokens.
"""
