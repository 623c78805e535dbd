#!/bin/sh
# check.sh FOLDER: what an image, or a machine without internet, must be able to do with nothing but what is installed:
# draw images, make masks with the backbone in the package, score and verify them. FOLDER is new, and may be written.
set -eu
images=$1/images store=$1/masks.store

locloc --version
locloc --help >/dev/null
locloc data synth "$images" --images 32 --classes 4 --seed 7
locloc masks build "$images" --catalog synthetic --store "$store"
locloc masks verify "$store@latest"
locloc masks score "$store@latest" --truth "$images/masks"
