"""Small models trained in each recipe: does low-precision training hold?"""
