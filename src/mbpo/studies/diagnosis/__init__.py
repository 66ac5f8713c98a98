"""Why a policy gradient did not converge: one experiment for each defect of a set-up that failed, and the repair."""
