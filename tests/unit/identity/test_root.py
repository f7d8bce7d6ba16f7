"""The root key and the derivation of keys by purpose."""

from dittofs.identity.root import RootKey, derive

ROOT = RootKey(bytes(range(16)))


def test_derivation_gives_these_bytes() -> None:
    assert (
        derive("root sign", ROOT.secret).hex()
        == "1f53ad6a28495cc70f7edb862a57adc21e2a08776d2986849e1778f4acb37ab4"
    )
    assert (
        derive("root wrap", ROOT.secret).hex()
        == "8035b0821906f261f9c6d769e478af2b4b79104d24728713c035ad6e60e64b88"
    )


def test_a_root_key_gives_these_publics() -> None:
    assert (
        ROOT.signing().public_key().public_bytes_raw().hex()
        == "d9790b389a5b36cead69e9fe2a54b28379b3dc8b2f5c856de4f227a2cd7f33cc"
    )
    assert (
        ROOT.wrapping().public_key().public_bytes_raw().hex()
        == "2a800e2ee3f18aa00f86f90f25c1701c249a40d6e0ad43df50d3fac98da0fb2c"
    )


def test_a_root_key_does_not_show_its_secret() -> None:
    assert ROOT.secret.hex() not in repr(ROOT)
    assert repr(ROOT.secret) not in repr(ROOT)
