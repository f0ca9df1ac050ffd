"""Images and masks: read as they are, or refused in one line that names the file."""

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ImageError
from pipeline.images import read_mask, read_photograph, read_volume, write_volume

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def volume(shape=(6, 7, 8)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def refused(call, *words):
    with pytest.raises(ImageError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


def test_a_volume_comes_back_bit_for_bit_with_its_affine(tmp_path):
    data = volume()
    write_volume(tmp_path / "a.nii.gz", data, AFFINE)
    back = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_allclose(back.affine, AFFINE)
    assert back.spacing == (2, 2, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda d: d.__setitem__((0, 0, 0), np.nan), "NaN"),
        (lambda d: d.fill(3), "constant"),
    ],
)
def test_bad_values_are_refused(tmp_path, damage, word):
    data = volume()
    damage(data)
    write_volume(tmp_path / "bad.nii.gz", data, AFFINE)
    refused(lambda: read_volume(tmp_path / "bad.nii.gz"), "bad.nii.gz", word)


def test_missing_truncated_4d_and_affineless_volumes_are_refused(tmp_path):
    import nibabel as nib

    refused(lambda: read_volume(tmp_path / "none.nii"), "none.nii", "not found")
    write_volume(tmp_path / "whole.nii.gz", volume((30, 30, 30)), AFFINE)
    content = (tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    refused(lambda: read_volume(tmp_path / "cut.nii.gz"), "cut.nii.gz", "cannot be read")
    write_volume(tmp_path / "series.nii", volume((4, 4, 4, 3)), AFFINE)
    refused(lambda: read_volume(tmp_path / "series.nii"), "series.nii", "4 dimensions")
    image = nib.Nifti1Image(volume(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, tmp_path / "lost.nii")
    refused(lambda: read_volume(tmp_path / "lost.nii"), "lost.nii", "affine")


def test_a_photograph_is_scaled_and_turned_upright(tmp_path):
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = (255, 51, 0)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    back = read_photograph(tmp_path / "a.png")
    assert back.data.dtype == np.float32
    np.testing.assert_allclose(back.data[-1, -1], [1, 0.2, 0])


def test_bad_photographs_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    refused(lambda: read_photograph(tmp_path / "cut.jpg"), "cut.jpg", "cannot be read")
    (tmp_path / "text.jpg").write_text("not a picture")
    refused(lambda: read_photograph(tmp_path / "text.jpg"), "text.jpg", "cannot be read")
    Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "flat.png")
    refused(lambda: read_photograph(tmp_path / "flat.png"), "flat.png", "constant")
    Image.fromarray(noise[..., 0]).save(tmp_path / "grey.png")
    refused(lambda: read_photograph(tmp_path / "grey.png"), "grey.png", "grey")
    refused(lambda: read_photograph(tmp_path / "a.bmp"), "a.bmp", "not found")


@pytest.mark.parametrize("mode", ["1", "P", "L", "RGB", "RGBA"])
def test_a_mask_is_what_is_not_zero_in_any_picture_mode(tmp_path, mode):
    truth = np.random.default_rng(1).random((9, 11)) < 0.3
    grey = Image.fromarray((truth * 255).astype(np.uint8))
    grey.convert(mode).save(tmp_path / "m.tif" if mode == "1" else tmp_path / "m.png")
    if mode == "P":
        picture = Image.fromarray(truth.astype(np.uint8), "L").convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
        picture.putdata(truth.astype(np.uint8).ravel().tolist())
        picture.save(tmp_path / "m.png")
    path = tmp_path / ("m.tif" if mode == "1" else "m.png")
    np.testing.assert_array_equal(read_mask(path, (9, 11)), truth)


def test_a_mask_of_another_size_or_grid_is_refused(tmp_path):
    Image.new("L", (5, 4), 255).save(tmp_path / "m.png")
    refused(lambda: read_mask(tmp_path / "m.png", (5, 4)), "m.png", "4×5", "5×4")
    write_volume(tmp_path / "m.nii.gz", np.ones((3, 3, 3), np.uint8), AFFINE)
    assert read_mask(tmp_path / "m.nii.gz", (3, 3, 3), AFFINE).all()
    moved = AFFINE.copy()
    moved[0, 3] += 1
    refused(lambda: read_mask(tmp_path / "m.nii.gz", (3, 3, 3), moved), "m.nii.gz", "another grid")


def test_volumes_of_colours_of_complex_numbers_and_beyond_float32_are_refused(tmp_path):
    import nibabel as nib

    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, data, word in (
        ("colour.nii.gz", colours, "colours"),
        ("complex.nii.gz", volume().astype(np.complex64), "complex"),
        ("huge.nii.gz", volume().astype(np.float64) * 1e300, "infinite"),
    ):
        nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / name)
        refused(lambda name=name: read_volume(tmp_path / name), name, word)
    refused(lambda: read_mask(tmp_path / "colour.nii.gz", (4, 4, 4), AFFINE), "colour.nii.gz", "colours")


def test_a_picture_mask_with_nan_and_a_file_of_several_pages_are_refused(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "nan.tif", np.full((4, 5), np.nan, np.float32))
    refused(lambda: read_mask(tmp_path / "nan.tif", (4, 5)), "nan.tif", "NaN")
    pages = np.random.default_rng(0).integers(0, 255, (2, 8, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="rgb")
    refused(lambda: read_photograph(tmp_path / "pages.tif"), "pages.tif", "2 pages")


def test_an_unreadable_picture_in_the_present_folder_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("not a picture")
    refused(lambda: read_photograph("text.png"), "'text.png'")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "mask.nii.gz", "mask.png"])
@pytest.mark.parametrize("content", [b"", b"not an image" * 60, b"\x1f\x8bnot an image"])
def test_an_unreadable_file_is_named_without_its_folders(tmp_path, name, content):
    folder = tmp_path / ("Hans Example " * 9)  # longer than what is quoted of a library's error
    folder.mkdir()
    (folder / name).write_bytes(content)
    kind = read_volume if "nii" in name else read_photograph
    with pytest.raises(ImageError, match="cannot be read") as refusal:
        read_mask(folder / name, (4, 4, 4), np.eye(4)) if "mask" in name else kind(folder / name)
    assert name in str(refusal.value)
    assert "Hans" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_file_that_may_not_be_read_is_named_without_its_folders(tmp_path, monkeypatch):
    import nibabel as nib

    (tmp_path / "a.nii").write_bytes(b"x")

    def deny(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(nib, "load", deny)
    refused(lambda: read_volume(tmp_path / "a.nii"), "(PermissionError: Permission denied)")
