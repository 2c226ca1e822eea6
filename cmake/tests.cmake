# SPDX-License-Identifier: Apache-2.0
# Tests find themselves: tests/unit/test_*.c (cmocka; a comment "link: base wire" names the layers, "support: netsim" files of
# tests/support, "timeout: 120" the seconds; each on a line of its own), tests/tools/*.c (helper programs), tests/peers/*.cc (foreign peers on grpc++),
# tests/fuzz/fuzz_*.c (replayed over tests/fuzz/corpus/<name>/), tests/integration/test_*.py and tests/scripts/test_*.py.
pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)

function(pfl_test_comment file key default ret)
  # A comment that begins its line and says nothing else: test data hold words such as "timeout: 5" too.
  set(comment "^(/\\*|#) ${key}: ([a-z0-9_ ]+)(\\*/)?$")
  file(STRINGS ${file} lines REGEX "${comment}" LIMIT_COUNT 1)
  set(value "${default}")
  if(lines MATCHES "${comment}")
    string(STRIP "${CMAKE_MATCH_2}" value)
  endif()
  set(${ret} "${value}" PARENT_SCOPE)
endfunction()

# An executable of ours: warnings as in src/, the layers its comment names.
function(pfl_test_program name file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  pfl_test_comment(${file} link "base" link)
  pfl_test_comment(${file} support "" support)
  separate_arguments(link)
  separate_arguments(support)
  set(extra "")
  foreach(s ${support})
    list(APPEND extra ${PROJECT_SOURCE_DIR}/tests/support/${s}.c)
  endforeach()
  if("runtime" IN_LIST link)
    list(APPEND extra ${gen}/examples_embedded.c)
  endif()
  add_executable(${name} ${file} ${extra} ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/tests ${gen})
  target_compile_options(${name} PRIVATE ${PFL_WARNINGS} -Wno-missing-prototypes)
  target_compile_definitions(${name} PRIVATE PFL_TEST_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures" PFL_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                             PFL_TEST_MODULES="${PROJECT_BINARY_DIR}")
  pfl_link(${name} "${link}")
  target_link_libraries(${name} PRIVATE PkgConfig::jansson PkgConfig::libuv PkgConfig::openssl)
endfunction()

# Modules that tests load, by the path PFL_TEST_MODULES "/p11_faulty.so": tests/modules/*.c.
file(GLOB modules CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/modules/*.c)
foreach(file ${modules})
  get_filename_component(name ${file} NAME_WE)
  add_library(${name} MODULE ${file})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_include_directories(${name} SYSTEM PRIVATE ${PKCS11_INCLUDE})
  target_compile_options(${name} PRIVATE ${PFL_WARNINGS} -Wno-missing-prototypes)
  set_target_properties(${name} PROPERTIES PREFIX "")
endforeach()

file(GLOB unit CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/unit/test_*.c)
if(PFL_FUZZ)
  set(unit "") # clang's build is for the fuzz targets alone
endif()
foreach(file ${unit})
  get_filename_component(name ${file} NAME_WE)
  pfl_test_program(${name} ${file})
  target_link_libraries(${name} PRIVATE PkgConfig::cmocka)
  if(modules)
    add_dependencies(${name} p11_faulty)
  endif()
  pfl_test_comment(${file} timeout 60 timeout)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} LABELS unit)
endforeach()

file(GLOB tools CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/tools/*.c)
foreach(file ${tools})
  get_filename_component(name ${file} NAME_WE)
  pfl_test_program(${name} ${file})
endforeach()

if(TARGET test_remote_learner) # starts it as its learner
  add_dependencies(test_remote_learner learner_peer)
endif()

file(GLOB fuzzers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz_*.c)
foreach(file ${fuzzers})
  get_filename_component(name ${file} NAME_WE)
  string(REPLACE "fuzz_" "" corpus ${name})
  if(PFL_FUZZ)
    pfl_test_program(${name} ${file})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    pfl_test_program(${name} ${file} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.c)
    add_test(NAME ${name} COMMAND ${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${corpus})
    set_tests_properties(${name} PROPERTIES TIMEOUT 60 LABELS fuzz)
  endif()
endforeach()

find_package(PkgConfig)
pkg_check_modules(grpcpp IMPORTED_TARGET grpc++)
pkg_check_modules(protobuf IMPORTED_TARGET protobuf)
file(GLOB peers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/peers/*.cc ${PROJECT_SOURCE_DIR}/bench/peers/*.cc)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin PATHS /usr/bin)
if(peers AND grpcpp_FOUND AND GRPC_CPP_PLUGIN AND NOT PFL_FUZZ)
  enable_language(CXX)
  set(cpp ${gen}/cpp)
  file(MAKE_DIRECTORY ${cpp})
  add_custom_command(
    OUTPUT ${cpp}/node.pb.cc ${cpp}/node.grpc.pb.cc ${cpp}/node.pb.h ${cpp}/node.grpc.pb.h
    COMMAND ${PROTOC} -I${PROJECT_SOURCE_DIR}/proto -I/usr/include --cpp_out=${cpp} --grpc_out=${cpp}
            --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${PROJECT_SOURCE_DIR}/proto/node.proto
    DEPENDS ${PROJECT_SOURCE_DIR}/proto/node.proto VERBATIM)
  foreach(file ${peers})
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} ${file} ${cpp}/node.pb.cc ${cpp}/node.grpc.pb.cc)
    target_include_directories(${name} PRIVATE ${cpp})
    target_link_libraries(${name} PRIVATE PkgConfig::grpcpp PkgConfig::protobuf)
    target_compile_features(${name} PRIVATE cxx_std_17)
  endforeach()
endif()

if(NOT PFL_FUZZ)
  include(cmake/bench.cmake)
endif()

file(GLOB scripts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/integration/test_*.py ${PROJECT_SOURCE_DIR}/tests/scripts/test_*.py)
foreach(file ${scripts})
  get_filename_component(name ${file} NAME_WE)
  pfl_test_comment(${file} timeout 180 timeout)
  pfl_test_comment(${file} once "" once)
  set(labels integration)
  if(once) # `# once: dev`: what it shows does not depend on the build, the sanitizers' one runs it
    list(APPEND labels once)
  endif()
  add_test(NAME ${name} COMMAND /usr/bin/python3 ${file})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} LABELS "${labels}"
    ENVIRONMENT "P2PFL_BIN=${PROJECT_BINARY_DIR}/p2pfl;P2PFL_BUILD=${PROJECT_BINARY_DIR};P2PFL_SRC=${PROJECT_SOURCE_DIR}")
endforeach()
