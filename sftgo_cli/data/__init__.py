"""From data sources to token columns: sources, formats, chat templates and masks, tokenization, packing, collation."""
