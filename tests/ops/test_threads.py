"""The pool under a call: many callers, forks, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

_C = pytest.importorskip("leafkit._C", reason="the native module was not built")

# Rows of stride 0: a search that takes minutes over documents of no size.
ENDLESS = "np.broadcast_to(np.ones((1, 64), np.float32), (4_000_000_000, 64))"
LONG_SEARCH = f"""
import numpy as np
from leafkit import ops
documents = {ENDLESS}
print("go", flush=True)
try:
    ops.search_topk(np.ones((QUERIES, 64), np.float32), documents, 1)
except KeyboardInterrupt:
    print("interrupted", ops.search_topk(np.ones((3, 64), np.float32), documents[:9000], 2).rows.tolist())
"""


def _matrices(seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(40, 24)).astype(np.float32), random.normal(size=(5000, 24)).astype(np.float32)


@pytest.mark.parametrize("queries", [1, 50])  # divided by documents, by queries
def test_ctrl_c_ends_a_long_search_and_the_pool_works_on(queries):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_SEARCH.replace("QUERIES", str(queries))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LEAFKIT_NUM_THREADS": "3"},
    )
    with process:
        assert process.stdout.readline() == "go\n"
        threading.Event().wait(0.3)  # into the native call; earlier is answered by Python, which is no failure
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out == "interrupted [[0, 1], [0, 1], [0, 1]]\n"


@pytest.mark.parametrize("queries", [1, 40])
def test_many_python_threads_search_at_once_and_each_gets_its_own_answer(queries):
    inputs = [_matrices(seed) for seed in range(8)]
    expected = [_C.search_topk(q[:queries], d, None, 7, "exact", threads=1)[1] for q, d in inputs]
    found = [[] for _ in inputs]

    def search(number):
        q, d = inputs[number]
        for _ in range(20):
            found[number].append(_C.search_topk(q[:queries], d, None, 7, "exact", threads=3)[1])

    callers = [threading.Thread(target=search, args=(number,)) for number in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((rows == expected[number]).all() for number, answers in enumerate(found) for rows in answers)
    assert all(len(answers) == 20 for answers in found)


def test_a_child_forked_in_the_middle_of_a_search_answers_on_threads_of_its_own():
    queries, documents = _matrices(0)
    expected = _C.search_topk(queries, documents, None, 5, "exact", threads=3)[1].tolist()
    stop = threading.Event()

    def keep_the_pool_busy():
        while not stop.is_set():
            _C.search_topk(queries, documents, None, 5, "exact", threads=3)

    busy = threading.Thread(target=keep_the_pool_busy)
    busy.start()
    try:
        for _ in range(10):
            assert _in_a_child(
                lambda: _C.search_topk(queries, documents, None, 5, "exact", threads=3)[1].tolist() == expected
            )
    finally:
        stop.set()
        busy.join()


def _in_a_child(answer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a threaded process is the point
        child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for threads it does not have ends here
        os._exit(0 if answer() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
