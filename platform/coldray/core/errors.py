"""Every error that coldray raises on purpose.

Each message names the value, the limit it broke and the way out. Catch :class:`ColdrayError` for all of them.
"""

from __future__ import annotations

from coldray.core.masking import masked


class ColdrayError(Exception):
    """Base of every deliberate error of the platform; passwords in its message are masked."""

    def __init__(self, *values: object) -> None:
        super().__init__(*(masked(value) if isinstance(value, str) else value for value in values))


class DataError(ColdrayError):
    """The data cannot be used as it is."""


class DataFileError(DataError):
    """A data file is missing or cannot be read.

    Look at the path, or name the folder with ``--data-dir`` or ``COLDRAY_DATA``; the message lists the places that
    were looked at.
    """


class DataFormatError(DataError):
    """A data file was read, but its columns or values are not what the format promises.

    The message names the line or the column, and what can be read there; correct the file, or name another column.
    """


class UnmatchedItemsError(DataFormatError):
    """Tables of items and of clicks have no item in common: their ids are not the same, or not written alike.

    The message shows two ids of each side and the likely cause: write them in one way in both tables.
    """


class UnmatchedUsersError(DataFormatError):
    """Tables of users and of clicks have no user in common: their ids are not the same, or not written alike.

    The message shows two ids of each side and the likely cause: write them in one way in both tables.
    """


class UnweightedEventError(DataFormatError):
    """Interactions are of kinds that have no weight, or of none.

    The message counts them by kind: give each a weight with ``--event-weights``, or leave their rows out.
    """


class EmptyDatasetError(DataError):
    """Nothing is left to learn from, usually after filtering.

    Lower the filter that the message names, or look at what was read before it.
    """


class UnknownAttributeError(DataError):
    """An item attribute was asked for that the dataset does not have.

    Use the nearest name, which the message tells, or leave the attribute out.
    """


class MissingFieldError(DataError):
    """A model reads ratings, times or item attributes, and there are none.

    Name the column when the data are read, or take a model that does without it.
    """


class UnknownIdError(DataError):
    """A user or item id is not in the vocabulary and the policy is to raise.

    Leave the id out, fit on data that have it, or use the policy ``warn`` or ``ignore``.
    """


class LeakageError(DataError):
    """The parts of a split share interactions, or a model would be fitted on what comes after its test.

    Draw the split anew; a pair belongs to one part.
    """


class DownloadError(DataError):
    """A file could not be fetched, or what arrived is not the published file.

    Try again, or fetch the file by hand and name its folder with ``--data-dir``.
    """


class ConfigError(ColdrayError):
    """A configuration or study file is invalid.

    The message names the field, its limit and the nearest valid name.
    """


class MissingExtraError(ConfigError):
    """A package that an extra of the installation brings is not there.

    Install the extra that the message names: ``pip install 'coldray[serve]'``.
    """


class PluginError(ConfigError):
    """A model, source or metric that another package adds cannot be used.

    Update the package that the message names, or uninstall it; everything else works without it.
    """


class ModelError(ColdrayError):
    """A model cannot be fitted or used."""


class NotFittedError(ModelError):
    """The model was asked for scores before it was fitted.

    Call ``fit``, or load a bundle.
    """


class SingularMatrixError(ModelError):
    """A linear system of the model has no unique solution.

    More regularization, or fewer attributes that say the same.
    """


class NumericalError(ModelError):
    """A computation produced NaN or infinite values.

    The message names the parameter and the value from which on it happens; in a study it costs its trial alone.
    """


class DivergedError(NumericalError):
    """The loss, the gradient or a weight became NaN or infinite in training; the last good checkpoint is kept.

    A lower learning rate, ``clip_norm``, or ``precision: float32``.
    """


class CheckpointError(ModelError):
    """A training checkpoint is damaged, of another schema, or of another model, configuration or data.

    Start the training anew, without the checkpoint, or use the version that wrote it.
    """


class TrainingFailedError(ModelError):
    """Workers that train together failed, or were lost more often than allowed.

    The message has the cause of the last worker; raise ``max_failures`` only if machines were lost.
    """


class CatalogTooLargeError(ModelError):
    """A computation needs more memory than there is; raised before anything is allocated.

    The message tells how many items fit, and the form of the model that needs less.
    """


class StudyError(ColdrayError):
    """A study cannot start or has no usable trial."""


class SelectionError(StudyError):
    """Nothing of what a study tried can be chosen: all of it failed.

    The message has the most frequent cause: change the space, or the data.
    """


class SearchInterruptedError(StudyError):
    """A search was stopped before all of its trials ended, most often by whoever started it.

    ``--resume`` goes on with it.
    """


class StudyLockedError(StudyError):
    """Another process works on the study.

    Wait for it, or end it; the message names the process.
    """


class OtherStudyError(StudyError):
    """A study on disk is of another space, other data or another version than the one that is to go on.

    Start a new study, or give back what differs; the message lists it.
    """


class FailureBudgetError(StudyError):
    """More trials of a study failed than it allows.

    Remove the cause, which the message names, and resume; or raise ``failures.max_failed_trials``.
    """


class BundleFitError(StudyError):
    """The process that fits the winner for the bundle died; what was tested is kept.

    Free memory and resume: only the last fit is done again.
    """


class JournalError(ColdrayError):
    """A file of records has been damaged, or cannot be read.

    The message names the line. What comes before it can be read; restore the file, or start a new study.
    """


class ClusterError(ColdrayError):
    """The Ray cluster cannot be reached.

    Start Ray, look at its address, or use ``--ray-address local``; the message has the line of Ray's log.
    """


class OutputError(ColdrayError):
    """Results cannot be written where they were asked to go.

    Name a folder that can be written, or free disk space.
    """


class TrackingError(ColdrayError):
    """The tracking server cannot be reached or refused a request.

    Look at the address and the account, or use ``--offline`` and send everything later by ``coldray sync``.
    """


class UnsentError(TrackingError):
    """The results are complete, but the tracking server has refused some of what was to be logged.

    What is missing is kept with the reason; ``coldray sync`` sends it once the server takes it.
    """


class BundleError(ColdrayError):
    """A model bundle is incomplete, damaged or of a schema this version cannot read.

    Fetch the bundle again, or load it with the version that it names.
    """


class StoreError(ColdrayError):
    """The database of events and new items cannot be reached.

    Look at the address of ``--store``; requests that need no store are answered all the same.
    """
