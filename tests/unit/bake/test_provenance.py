"""The origin and license of weights, and the notice that states them (bake/provenance.py)."""

from __future__ import annotations

import pytest

from lambdiff.bake import provenance
from lambdiff.bake.catalogue import CATALOGUE
from lambdiff.bake.sources import Source
from lambdiff.bake.tiny_decoders import TINY_DECODERS

ENTRY = CATALOGUE["tiny-sd"]


def complete(source, *, name=None, revision=None, license=None, origin=(), tiny_decoder=None):
    """Complete the values that the caller left out."""
    return provenance.complete(source, name, revision, license, origin, tiny_decoder)


def test_a_local_folder_has_defaults(tmp_path):
    """For a local folder the name is the folder's, the revision is `local`, and the license is unknown."""
    facts = complete(Source(tmp_path / "my-model"))
    assert (facts.name, facts.revision, facts.license, facts.origin) == ("my-model", "local", "unknown", ())


def test_the_caller_overrides_the_catalogue(tmp_path):
    """Each value that the caller gives replaces the catalogue's."""
    facts = complete(Source(tmp_path, ENTRY), name="mine", license="MIT")
    assert (facts.name, facts.license) == ("mine", "MIT")
    assert (facts.revision, facts.origin) == (ENTRY.revision, (ENTRY.url,))


@pytest.mark.parametrize("decoder", [*TINY_DECODERS.values(), None])
def test_the_notice_names_both_licenses(tmp_path, decoder):
    """The notice names the license of the model, and that of TAESD if its decoder is used."""
    facts = complete(Source(tmp_path, ENTRY), tiny_decoder=decoder)
    provenance.write_notice(facts, Source(tmp_path, ENTRY), tmp_path)
    notice = (tmp_path / "NOTICE.txt").read_text()
    assert f"License: {ENTRY.license}\nLicense text: {ENTRY.license_url}\nFrom: {ENTRY.url}\n" in notice
    for tiny in TINY_DECODERS.values():
        assert (tiny.url in notice) == (f"Decoder: {tiny.name}, license MIT" in notice) == (decoder is tiny)
    assert provenance.NO_SAFETY_CHECKER in notice
