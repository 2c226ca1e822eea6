# SPDX-License-Identifier: Apache-2.0
cmake_minimum_required(VERSION 3.22)
# Writes OUT with the commit that is built, if it differs. Run at each build: cmake -DSRC=... -DOUT=... -P commit.cmake
execute_process(COMMAND git -C ${SRC} describe --always --dirty --abbrev=12 --exclude=* OUTPUT_VARIABLE commit ERROR_QUIET
  OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
if(failed OR commit STREQUAL "")
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define PFL_COMMIT \"${commit}\"\n" @ONLY)
