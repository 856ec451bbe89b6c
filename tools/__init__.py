"""Tools of the project's developers; `make` calls them. Nothing in the product imports them."""
