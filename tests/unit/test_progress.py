"""Rate and remaining time of long work."""

from shared.progress import Throughput


def test_rate_and_remaining_time_are_those_of_the_mean_since_the_start():
    clock = iter([100.0, 104.0, 104.0])
    throughput = Throughput(lambda: next(clock))
    assert (throughput.per_second(8), throughput.eta_seconds(8, 32)) == (2, 12.0)


def test_rate_is_0_and_remaining_time_unknown_while_no_time_has_passed():
    throughput = Throughput(lambda: 100.0)
    assert (throughput.per_second(8), throughput.eta_seconds(8, 32)) == (0, None)


def test_remaining_time_is_unknown_before_anything_is_done():
    clock = iter([100.0, 104.0, 104.0])
    throughput = Throughput(lambda: next(clock))
    assert (throughput.per_second(0), throughput.eta_seconds(0, 32)) == (0, None)
