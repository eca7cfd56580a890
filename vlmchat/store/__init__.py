"""Chats on disk: one SQLite database, and the pictures beside it by content hash."""
