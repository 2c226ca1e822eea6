# SPDX-License-Identifier: Apache-2.0
find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

set(PFL_WARNINGS -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                 -Wformat=2 -Wno-format-nonliteral -Werror)
add_compile_definitions(_GNU_SOURCE)
# No fused multiply-add: the same bytes on every machine.
add_compile_options(-ffp-contract=off)
add_compile_options(-fno-strict-aliasing -fstack-protector-strong -fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fstack-clash-protection -ftrivial-auto-var-init=zero)
endif()
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  add_compile_options(-fcf-protection)
endif()
add_link_options(-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack)
# No search path in any binary. CMake's own would end in an empty element, which the loader takes for the current directory: a library
# that somebody left there would be loaded.
set(CMAKE_SKIP_RPATH ON)
include(CheckPIESupported)
check_pie_supported()

if(PFL_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all)
  add_link_options(-fsanitize=address,undefined)
elseif(PFL_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(CMAKE_BUILD_TYPE MATCHES "Rel")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(PFL_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
endif()
