"""The sections of the page, one per file: data → text, tables and figures."""
