"""The stages of one audit: set up, measure a case, twins, interventions on the cohort."""
