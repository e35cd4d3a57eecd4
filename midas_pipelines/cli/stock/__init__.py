"""Commands on items, rules, conflicts and stock."""
