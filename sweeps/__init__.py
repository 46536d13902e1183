"""Many experiments: expand a sweep file into runs, launch them (local, Slurm, Ray), report where they stand."""
