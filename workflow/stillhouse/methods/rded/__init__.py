"""RDED: patches scored by a teacher."""
