"""The console: the pages on which a person sees what the shop and 4Seller do, and decides."""
