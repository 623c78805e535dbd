"""Which recipes may refine a version: those that need no other attention."""

from types import SimpleNamespace

import pytest

from locloc.pipeline.build.incremental import _check_same_attention
from locloc.pipeline.errors import BuildError, RecipeError
from locloc.pipeline.recipe import KEPT_REVISIONS, REVISIONS, Recipe, load_recipe


def version_of(recipe: Recipe, without: tuple[str, ...] = ()) -> SimpleNamespace:
    """A version made by `recipe`, of a release that did not have the backbone's settings `without`."""
    content = recipe.model_dump(mode="json")
    for name in without:
        del content["backbone"][name]
    return SimpleNamespace(name="s@v1", provenance={"recipe": content, "revisions": dict(REVISIONS)})


def test_a_version_of_an_older_release_is_refined():
    _check_same_attention(load_recipe("official"), version_of(Recipe(), without=("maps",)))


@pytest.mark.parametrize("without", [(), ("maps",)])
def test_other_maps_are_refused(without):
    with pytest.raises(RecipeError, match="backbone.maps is 'attention.contrast' in this recipe and was 'attention'"):
        _check_same_attention(load_recipe("contrast"), version_of(Recipe(), without))
    larger = Recipe.model_validate({"backbone": {"size_px": 448}})
    with pytest.raises(RecipeError, match="backbone.size_px is 448 in this recipe and was 224 in s@v1"):
        _check_same_attention(larger, version_of(Recipe(), without))


@pytest.mark.parametrize("stage", ["decode", "geometry", "attention"])
def test_attention_of_a_revision_that_is_not_kept_is_refused(stage):
    version = version_of(Recipe())
    for kept in KEPT_REVISIONS.get(stage, ()):
        version.provenance["revisions"][stage] = kept
        _check_same_attention(Recipe(), version)
    version.provenance["revisions"] |= {stage: 99}
    version.provenance["code_version"] = "9.9"
    with pytest.raises(BuildError, match=r"s@v1 was made by locloc 9.9, whose stages give other masks"):
        _check_same_attention(Recipe(), version)
