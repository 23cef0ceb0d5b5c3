"""Versioned changes of the schema. A version that was released is never edited."""
