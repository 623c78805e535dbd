"""Systems are timed in turn, with the noise and ratios of a fake clock; process time by laps."""

import pytest

from locloc.trainer.bench.timing import ProcessClock, Reading, again, in_turn, noise, ratio, spread


class FakeClock:
    """Each lap of a run takes as many seconds as its name says."""

    unit = "fake seconds"

    def __init__(self, drift: float = 0.0):
        self.now, self.drift = 0.0, drift

    def time(self, run) -> Reading:
        laps = []
        run(laps.append)
        self.now += 1
        seconds = {name: float(name) * (1 + self.drift * self.now) for name in laps}
        return Reading(seconds, sum(seconds.values()))


def test_systems_are_measured_in_turn_and_every_second_round_backwards():
    order = []

    def run(name):
        return lambda lap: (order.append(name), lap("1"))

    timed = in_turn({name: run(name) for name in "abc"}, FakeClock(), rounds=3, warm_up=1)
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(readings) for name, readings in timed.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_copy_of_a_system_shows_the_noise_and_a_slower_one_its_ratio():
    runs = {"a": lambda lap: lap("2"), "b": lambda lap: lap("3"), again("a"): lambda lap: lap("2")}
    quiet = in_turn(runs, FakeClock(), rounds=4, warm_up=0)
    assert noise(quiet, "a") == 1.0
    assert ratio(quiet["b"], quiet["a"]) == 1.5
    slower = runs | {again("a"): lambda lap: lap("2.5")}
    assert noise(in_turn(slower, FakeClock(), rounds=4, warm_up=0), "a") == 1.25


def test_a_machine_that_slows_down_does_not_favour_the_first_system():
    runs = {"a": lambda lap: lap("2"), again("a"): lambda lap: lap("2")}
    drifting = in_turn(runs, FakeClock(drift=0.01), rounds=10, warm_up=0)
    assert abs(noise(drifting, "a") - 1) < 0.001


def test_spread_by_hand():
    result = spread([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (result.median, result.p10, result.p90, result.runs) == (3.0, pytest.approx(1.4), pytest.approx(4.6), 5)
    assert spread([7.0]).p90 == 7.0


def test_process_time_is_split_over_the_laps():
    def run(lap):
        sum(range(300_000))
        lap("work")
        lap("nothing")
        sum(range(300_000))
        lap("work")

    reading = ProcessClock().time(run)
    assert list(reading.stages) == ["work", "nothing"]
    assert reading.stages["work"] > 10 * reading.stages["nothing"] >= 0
    assert reading.total_s == pytest.approx(sum(reading.stages.values()))
