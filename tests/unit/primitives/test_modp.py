"""RFC 3526 group 14: the prime is the RFC's formula, and elements outside the group are refused."""

from __future__ import annotations

import random

import pytest

from cloister.errors import PeerError
from cloister.primitives.modp import EXPONENT_SIZE, SIZE, P, Q, element, exponent, power
from support.people import seeded


def floor_of_pi_shifted(bits: int) -> int:
    """floor(2**bits * pi), by Machin's formula in integers."""
    guard = 64

    def arctan_of_inverse(x: int) -> int:
        total, term, n = 0, (1 << bits + guard) // x, 1
        while term:
            total += term // n if n % 4 == 1 else -(term // n)
            term //= x * x
            n += 2
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239)) >> guard


def is_probable_prime(n: int) -> bool:
    """Miller-Rabin with eight random bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for seed in range(8):
        value = pow(random.Random(seed).randrange(2, n - 1), odd, n)
        if value in (1, n - 1):
            continue
        if not any((value := value * value % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_prime_is_the_rfcs_formula() -> None:
    assert floor_of_pi_shifted(8) == 804
    assert P == 2**2048 - 2**1984 - 1 + 2**64 * (floor_of_pi_shifted(1918) + 124476)


def test_the_prime_is_safe_and_2_generates_the_subgroup_of_prime_order() -> None:
    assert P == 2 * Q + 1
    assert is_probable_prime(P)
    assert is_probable_prime(Q)
    assert not is_probable_prime(P + 2)
    assert P % 8 == 7
    assert pow(2, Q, P) == 1


def test_both_sides_agree() -> None:
    a, b = exponent(seeded(1)), exponent(seeded(2))
    assert power(element(power(2, a)), b) == power(element(power(2, b)), a)
    assert len(power(2, a)) == SIZE


def test_an_exponent_has_exactly_512_bits() -> None:
    assert exponent(lambda n: bytes(n)) == 1 << 511
    assert exponent(lambda n: b"\xff" * n) == 2**512 - 1
    assert EXPONENT_SIZE == 64


@pytest.mark.parametrize("value", [0, 1, P - 1, P, P + 1, 2**2048 - 1])
def test_an_element_outside_the_group_is_refused(value: int) -> None:
    with pytest.raises(PeerError) as caught:
        element(value.to_bytes(SIZE, "big"))
    assert caught.value.code == "bad_element"


@pytest.mark.parametrize("value", [2, P - 2])
def test_the_smallest_and_largest_elements_are_accepted(value: int) -> None:
    assert element(value.to_bytes(SIZE, "big")) == value


@pytest.mark.parametrize("data", [b"", b"\2", bytes(254) + b"\2", bytes(256) + b"\2"])
def test_an_element_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        element(data)
    assert caught.value.code == "bad_element"


@pytest.mark.parametrize(("base", "secret"), [(1, 5), (P - 1, 3), (P - 1, 4), (2, Q), (2, 2 * Q)])
def test_a_result_that_gives_nothing_away_to_hide_is_refused(base: int, secret: int) -> None:
    with pytest.raises(PeerError) as caught:
        power(base, secret)
    assert caught.value.code == "bad_element"
