"""A Ray cluster of two nodes with one core each on this machine: `python ray_cluster.py FOLDER`.

It prints its address and runs until its standard input ends. FOLDER is for sockets and logs and needs a short name: the
path of a Unix socket has at most 107 bytes.
"""

import os
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

NODE = {
    "node_ip_address": "127.0.0.1",
    "num_cpus": 1,
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
    "temp_dir": sys.argv[1],
}

if __name__ == "__main__":
    os.environ["RAY_TMPDIR"] = sys.argv[1]
    (Path(sys.argv[1]) / "ray").mkdir()  # Ray writes its address there, and does not make the folder
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
