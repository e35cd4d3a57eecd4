"""`midas orders`: show marketplace orders, ship and hold them, and resolve exceptions."""
