import pytest
import torch

from e2mc.data.views import (
    Draws,
    Normalisation,
    PlainView,
    ViewRecipe,
    crop_boxes,
    plain_view,
    random_views,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_crops_stay_inside_and_have_the_drawn_area():
    recipe = ViewRecipe(28, crop_scale=(0.2, 0.6))
    uniform = torch.rand(4000, 4, generator=seeded())
    left, top, width, height = crop_boxes(uniform, (28, 28), recipe).unbind(1)
    assert (left >= 0).all() and (left + width <= 28 + 1e-4).all()
    assert (top >= 0).all() and (top + height <= 28 + 1e-4).all()
    area = width * height / 28**2
    assert area.min() >= 0.2 * 0.99 and area.max() <= 0.6 * 1.01
    assert area.mean() == pytest.approx(0.4, abs=0.01)


def test_draws_lie_where_the_recipe_says():
    recipe = ViewRecipe(
        32, jitter=0.8, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1, blur=0.5
    )
    draws = Draws.of(recipe, 4000, 3, seeded())
    for name, low, high in [
        ("brightness", 0.6, 1.4),
        ("contrast", 0.7, 1.3),
        ("saturation", 0.8, 1.2),
        ("hue", -0.1, 0.1),
        ("blur_sigma", 0.1, 2.0),
    ]:
        values = getattr(draws, name)
        assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert draws.jitter.float().mean() == pytest.approx(0.8, abs=0.03)
    assert draws.blur.float().mean() == pytest.approx(0.5, abs=0.03)
    assert draws.solarize is None and draws.grayscale is None


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_a_function_of_the_seed(channels):
    pixels = (torch.rand(8, channels, 28, 28, generator=seeded()) * 255).byte()
    normalisation = Normalisation((0.3,) * channels, (0.2,) * channels)
    recipe = ViewRecipe(
        14, jitter=0.8, brightness=0.4, contrast=0.4, grayscale=0.2, blur=0.5, solarize=0.2
    )

    def views(seed):
        draws = Draws.of(recipe, 8, channels, seeded(seed))
        return random_views(pixels, recipe, normalisation, draws)

    assert views(1).shape == (8, channels, 14, 14) and views(1).isfinite().all()
    assert torch.equal(views(1), views(1))
    assert not torch.equal(views(1), views(2))


def test_a_part_of_the_draws_makes_the_same_part_of_the_views():
    pixels = (torch.rand(8, 3, 28, 28, generator=seeded()) * 255).byte()
    normalisation = Normalisation((0.3,) * 3, (0.2,) * 3)
    recipe = ViewRecipe(14, jitter=0.8, brightness=0.4, hue=0.1, blur=0.5)
    draws = Draws.of(recipe, 8, 3, seeded())
    whole = random_views(pixels, recipe, normalisation, draws)
    part = random_views(pixels[2:5], recipe, normalisation, draws.map(lambda x: x[2:5]))
    torch.testing.assert_close(part, whole[2:5])


def test_a_blurred_view_is_the_same_alone_and_in_a_batch():
    pixels = (torch.rand(64, 3, 28, 28, generator=seeded()) * 255).byte()
    recipe = ViewRecipe(28, blur=1.0, blur_sigma=(0.1, 2.0))
    none = Normalisation((0.0,) * 3, (1.0,) * 3)
    draws = Draws.of(recipe, 64, 3, seeded())
    together = random_views(pixels, recipe, none, draws)
    for i in range(64):
        one = draws.map(lambda drawn, i=i: drawn[i : i + 1])
        alone = random_views(pixels[i : i + 1], recipe, none, one)
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-6, rtol=0)


def test_images_of_one_batch_get_views_of_their_own():
    pixels = (torch.rand(1, 1, 28, 28, generator=seeded()) * 255).byte().repeat(4, 1, 1, 1)
    recipe = ViewRecipe(28)
    draws = Draws.of(recipe, 4, 1, seeded())
    views = random_views(pixels, recipe, Normalisation((0.0,), (1.0,)), draws)
    assert all(not torch.equal(views[0], views[index]) for index in range(1, 4))


def test_plain_view_is_the_normalised_image():
    pixels = torch.full((2, 1, 28, 28), 51, dtype=torch.uint8)
    view = plain_view(pixels, Normalisation((0.1,), (0.5,)), PlainView(28))
    torch.testing.assert_close(view, torch.full((2, 1, 28, 28), 0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.5}, "flip is a probability"),
        ({"crop_scale": (0.5, 0.2)}, "smallest <= largest"),
        ({"crop_scale": (0.5, 1.2)}, "share of the area"),
        ({"size": 0}, "size must be at least 1"),
        ({"hue": 0.7}, "hue"),
        (
            {"brightness": 0.4},
            r"brightness is 0\.4, but jitter, .* is 0: set jitter, e\.g\. to 0\.8",
        ),
        ({"contrast": 0.4, "hue": 0.1}, "contrast is 0.4, but jitter"),
        ({"jitter_order": "random"}, "jitter_order is random, but jitter"),
        ({"jitter": 0.8}, "jitter is 0.8, but brightness, contrast, saturation and hue are 0: set"),
        ({"blur_sigma": (0.5, 1.0)}, r"blur_sigma is \(0\.5, 1\.0\), but blur, .* is 0: set blur"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ViewRecipe(**({"size": 28} | change))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (
            (123.7, 116.3, 103.5),
            (58.4, 57.1, 57.4),
            r"mean must .* found 123\.7, 116\.3, 103\.5: .* 255",
        ),
        ((0.485, 0.456, 0.406), (58.4, 57.1, 57.4), r"std must be 0 < std <= 1 .* 58\.4.* by 255"),
        ((0.5,), (0.0,), "std must be 0 < std"),
        ((-0.1,), (0.2,), "mean must be 0 <= mean <= 1"),
        ((float("nan"),), (0.2,), "mean must be"),
        ((0.5,), (float("nan"),), "std must be"),
        ((0.5,), (float("inf"),), "std must be"),
        ((), (), "give a number per channel"),
        ((0.5, 0.5), (0.2,), "2 means but 1 standard deviations"),
    ],
)
def test_bad_normalisations_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalisation(mean, std)


@pytest.mark.parametrize(("channels", "numbers"), [(3, 1), (1, 3), (3, 2)])
def test_channels_of_a_normalisation_must_fit_the_images(channels, numbers):
    normalisation = Normalisation((0.5,) * numbers, (0.5,) * numbers)
    with pytest.raises(
        ValueError, match=f"of {numbers} channels does not fit images of {channels}"
    ):
        normalisation(torch.zeros(2, channels, 4, 4))


def test_normalisations_at_the_edges_are_taken():
    for mean, std in ((0.0, 1.0), (1.0, 1 / 255)):
        assert Normalisation((mean,), (std,))(torch.ones(1, 1, 1, 1)).isfinite().all()
