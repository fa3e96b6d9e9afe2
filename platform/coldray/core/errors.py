"""Every error that coldray raises on purpose.

Each message names the value, the limit it broke and the way out. Catch :class:`ColdrayError` for all of them.
"""

from __future__ import annotations

from coldray.core.masking import masked


class ColdrayError(Exception):
    """Base of every deliberate error of the platform; passwords in its message are masked.

    Examples
    --------
    >>> import coldray
    >>> try:
    ...     coldray.load_dataset("ml-100")
    ... except coldray.ColdrayError as error:
    ...     print(str(error).split("?")[0])
    There is no dataset 'ml-100', and no file of that name. Did you mean 'ml-100k'
    """

    def __init__(self, *values: object) -> None:
        super().__init__(*(masked(value) if isinstance(value, str) else value for value in values))


class DataError(ColdrayError):
    """The data cannot be used as it is."""


class DataFileError(DataError):
    """A data file is missing or cannot be read."""


class DataFormatError(DataError):
    """A data file was read, but its columns or values are not what the format promises."""


class UnmatchedItemsError(DataFormatError):
    """Tables of items and of clicks have no item in common: their ids are not the same, or not written alike."""


class EmptyDatasetError(DataError):
    """Nothing is left to learn from, usually after filtering."""


class UnknownAttributeError(DataError):
    """An item attribute was asked for that the dataset does not have."""


class MissingFieldError(DataError):
    """A model reads ratings, times or item attributes, and there are none."""


class UnknownIdError(DataError):
    """A user or item id is not in the vocabulary and the policy is to raise."""


class LeakageError(DataError):
    """The parts of a split share interactions, or a model would be fitted on what comes after its test."""


class DownloadError(DataError):
    """A file could not be fetched, or what arrived is not the published file."""


class ConfigError(ColdrayError):
    """A configuration or study file is invalid."""


class MissingExtraError(ConfigError):
    """A package that an extra of the installation brings is not there."""


class PluginError(ConfigError):
    """A model, source or metric that another package adds cannot be used."""


class ModelError(ColdrayError):
    """A model cannot be fitted or used."""


class NotFittedError(ModelError):
    """The model was asked for scores before it was fitted."""


class SingularMatrixError(ModelError):
    """A linear system of the model has no unique solution."""


class NumericalError(ModelError):
    """A computation produced NaN or infinite values."""


class DivergedError(NumericalError):
    """The loss, the gradient or a weight became NaN or infinite in training; the last good checkpoint is kept."""


class CheckpointError(ModelError):
    """A training checkpoint is damaged, of another schema, or of another model, configuration or data."""


class TrainingFailedError(ModelError):
    """Workers that train together failed, or were lost more often than allowed."""


class CatalogTooLargeError(ModelError):
    """A computation needs more memory than there is; raised before anything is allocated."""


class StudyError(ColdrayError):
    """A study cannot start or has no usable trial."""


class SelectionError(StudyError):
    """Nothing of what a study tried can be chosen: all of it failed."""


class SearchInterruptedError(StudyError):
    """A search was stopped before all of its trials ended, most often by whoever started it."""


class StudyLockedError(StudyError):
    """Another process works on the study."""


class OtherStudyError(StudyError):
    """A study on disk is of another space, other data or another version than the one that is to go on."""


class FailureBudgetError(StudyError):
    """More trials of a study failed than it allows."""


class BundleFitError(StudyError):
    """The process that fits the winner for the bundle died; what was tested is kept."""


class JournalError(ColdrayError):
    """A file of records has been damaged, or cannot be read."""


class ClusterError(ColdrayError):
    """The Ray cluster cannot be reached."""


class OutputError(ColdrayError):
    """Results cannot be written where they were asked to go."""


class TrackingError(ColdrayError):
    """The tracking server cannot be reached or refused a request."""


class UnsentError(TrackingError):
    """The results are complete, but the tracking server has refused some of what was to be logged."""


class BundleError(ColdrayError):
    """A model bundle is incomplete, damaged or of a schema this version cannot read."""


class StoreError(ColdrayError):
    """The database of events and new items cannot be reached."""
