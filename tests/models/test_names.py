"""Names of backbones with options, and options written behind a name."""

import datetime

import pytest

from e2mc.models.names import parse, written

LIBRARIES = ("timm", "torchvision")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"img_size": 224, "dynamic_img_size": True, "global_pool": "token"},
        {"class_token": None, "qkv_bias": False, "drop_rate": 1e-5},
        {"depths": [1, 2, 1], "sizes": {"first": [7, 7]}},
        # texts that would be taken for something else
        {"name": "224", "other": "true", "third": "None", "fourth": "[1]"},
        {"text": "a&b=c?d e+f%", "empty": "", "accent": "é"},
    ],
)
def test_written_options_are_read_as_they_were(options):
    found = parse(written("timm:vit_small", options), LIBRARIES)
    assert (found.library, found.network, found.options) == ("timm", "vit_small", options)


def test_options_are_written_as_one_would():
    options = {"img_size": 224, "dynamic_img_size": True, "depths": [1, 2]}
    expected = "timm:vit?img_size=224&dynamic_img_size=true&depths=[1,2]"
    assert written("timm:vit", options) == expected


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:vit?a=1", {"b": 2}, "has options behind its name and a mapping of them: give one"),
        ("timm:vit", {"day": datetime.date(2024, 1, 1)}, "option 'day' must be true, false, none"),
    ],
)
def test_options_that_cannot_be_written(name, options, message):
    with pytest.raises(ValueError, match=message):
        written(name, options)
