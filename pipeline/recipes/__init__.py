"""Built-in mask recipes as TOML, one file each; `locloc masks recipe NAME` prints one in full."""
