"""Built-in mask recipes as TOML, one file each, and the choice among them for a backbone."""
