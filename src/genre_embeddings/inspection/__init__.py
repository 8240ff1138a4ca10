"""Were the genre embeddings learnt appropriately?"""
