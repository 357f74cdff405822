"""One case measured: every input, sweeps of all fp32, one input explained."""
