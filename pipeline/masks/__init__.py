"""One image's attention to its mask: saliency, trimap, cut."""
