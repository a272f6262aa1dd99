Recommender = object
