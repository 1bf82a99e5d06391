"""The life cycle of a session: it begins, is current while code runs in it, and always ends."""
