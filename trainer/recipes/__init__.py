"""Built-in training recipes as TOML, one file each; RUN/recipe.toml of a run has every setting."""
