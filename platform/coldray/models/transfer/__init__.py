"""Learned similarities: CA-Rec, UA-Rec, GE-Rec."""
