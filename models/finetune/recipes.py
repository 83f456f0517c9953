"""Lists the recipe of each task."""

from typing import Any

from models.finetune.classification import ClassificationRecipe
from models.finetune.entities import EntitiesRecipe
from models.finetune.qa import QARecipe
from models.finetune.recipe import Recipe
from models.finetune.rerank import RerankRecipe
from models.finetune.similarity import SimilarityRecipe
from models.tasks.base import TaskName

RECIPES: dict[TaskName, type[Recipe[Any]]] = {  # of whichever task
    recipe.spec.name: recipe
    for recipe in (QARecipe, RerankRecipe, ClassificationRecipe, SimilarityRecipe, EntitiesRecipe)
}
