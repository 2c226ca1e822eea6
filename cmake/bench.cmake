# SPDX-License-Identifier: Apache-2.0
# The parties of the benchmarks: bench/tools/*.c are ours (as tests/tools), bench/peers/*.c stand on OpenSSL alone, bench/peers/*.cc on grpc++.
file(GLOB bench_tools CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/tools/*.c)
foreach(file ${bench_tools})
  get_filename_component(name ${file} NAME_WE)
  pfl_test_program(${name} ${file})
endforeach()

file(GLOB bench_peers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/bench/peers/*.c)
foreach(file ${bench_peers})
  get_filename_component(name ${file} NAME_WE)
  add_executable(${name} ${file})
  target_compile_options(${name} PRIVATE ${PFL_WARNINGS} -Wno-missing-prototypes)
  target_link_libraries(${name} PRIVATE PkgConfig::openssl Threads::Threads)
endforeach()
