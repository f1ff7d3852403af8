"""Executors that compute outside of this process. :class:`guidelens.runs.execute.InProcess` computes in it.

- :mod:`.worker_setup`: what a worker has to load; :mod:`.task_queue`: order and retries of tasks; :mod:`.devices`:
    several devices of this machine; :mod:`.ray`: a Ray cluster.
"""
