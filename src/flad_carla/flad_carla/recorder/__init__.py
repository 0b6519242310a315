# SPDX-License-Identifier: Apache-2.0
"""Records driving as a data set in LMDrive's folder layout.

``dataset`` listens to runs, ``store`` puts whole frames on disk, ``fields`` and ``raster`` make
what LMDrive's files hold, ``kicks`` disturbs the car, ``verify`` checks a data set.
"""
