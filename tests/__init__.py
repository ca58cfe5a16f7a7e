"""Tests of quicpipe-lab, laid out like the package; ``./lab test`` runs them with every gate."""
