# SPDX-License-Identifier: Apache-2.0
# proto/*.proto -> nanopb code (generated/<name>.pb.h) and, for gRPC reflection, each file's serialized descriptor set as C bytes
# (generated/<name>_descriptor.h: pfl_<name>_descriptor, pfl_<name>_descriptor_len).
find_program(PROTOC NAMES protoc PATHS /usr/bin REQUIRED)
set(PFL_PYTHON /usr/bin/python3)
set(gen ${PROJECT_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${gen})
file(GLOB protos CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.proto)
set(proto_sources "")
foreach(proto ${protos})
  get_filename_component(name ${proto} NAME_WE)
  set(options ${PROJECT_SOURCE_DIR}/proto/${name}.options)
  set(deps ${proto})
  if(EXISTS ${options})
    list(APPEND deps ${options})
  endif()
  add_custom_command(
    OUTPUT ${gen}/${name}.pb.c ${gen}/${name}.pb.h
    COMMAND ${CMAKE_COMMAND} -E env PATH=/usr/bin:/bin ${PROTOC} --plugin=protoc-gen-nanopb=/usr/bin/protoc-gen-nanopb
            -I${PROJECT_SOURCE_DIR}/proto -I/usr/include --nanopb_opt=-I${PROJECT_SOURCE_DIR}/proto --nanopb_out=${gen} ${proto}
    DEPENDS ${deps} VERBATIM)
  add_custom_command(
    OUTPUT ${gen}/${name}_descriptor.c ${gen}/${name}_descriptor.h
    COMMAND ${PROTOC} -I${PROJECT_SOURCE_DIR}/proto -I/usr/include --include_imports --descriptor_set_out=${gen}/${name}.desc ${proto}
    COMMAND ${PFL_PYTHON} ${PROJECT_SOURCE_DIR}/scripts/embed.py ${gen}/${name}.desc pfl_${name}_descriptor ${gen}/${name}_descriptor
    DEPENDS ${proto} ${PROJECT_SOURCE_DIR}/scripts/embed.py VERBATIM)
  list(APPEND proto_sources ${gen}/${name}.pb.c ${gen}/${name}_descriptor.c)
endforeach()
# google/protobuf/empty.proto is imported: nanopb wants its header too.
add_custom_command(
  OUTPUT ${gen}/google/protobuf/empty.pb.c ${gen}/google/protobuf/empty.pb.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${gen}/google/protobuf
  COMMAND ${CMAKE_COMMAND} -E env PATH=/usr/bin:/bin ${PROTOC} --plugin=protoc-gen-nanopb=/usr/bin/protoc-gen-nanopb -I/usr/include
          --nanopb_out=${gen} /usr/include/google/protobuf/empty.proto
  VERBATIM)
list(APPEND proto_sources ${gen}/google/protobuf/empty.pb.c)

# Experiments that the binary carries with it.
file(GLOB examples CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/examples/experiments/*.yaml)
add_custom_command(
  OUTPUT ${gen}/examples_embedded.c
  COMMAND ${PFL_PYTHON} ${PROJECT_SOURCE_DIR}/scripts/embed.py --examples ${gen}/examples_embedded.c ${examples}
  DEPENDS ${examples} ${PROJECT_SOURCE_DIR}/scripts/embed.py VERBATIM)

find_library(NANOPB protobuf-nanopb REQUIRED)
find_path(NANOPB_INCLUDE pb.h PATH_SUFFIXES nanopb REQUIRED)
add_library(pfl_proto STATIC ${proto_sources})
target_include_directories(pfl_proto PUBLIC ${gen} ${NANOPB_INCLUDE})
target_link_libraries(pfl_proto PUBLIC ${NANOPB})
foreach(layer wire rpc)
  if(TARGET pfl_${layer})
    add_dependencies(pfl_${layer} pfl_proto)
    target_include_directories(pfl_${layer} PRIVATE ${gen} ${NANOPB_INCLUDE})
  endif()
endforeach()
