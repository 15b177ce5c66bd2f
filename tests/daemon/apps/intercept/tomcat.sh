#!/bin/sh
# Debian's Tomcat with Debian's configuration, on a port of the test's, in a base folder for each generation.
set -e
base=@FOLDER@/tomcat-$SUPD_GENERATION
mkdir -p "$base/webapps/ROOT" "$base/logs" "$base/work" "$base/temp"
cp -rL /etc/tomcat10 "$base/conf"
sed -i 's/Connector port="8080"/Connector port="@PORT@"/' "$base/conf/server.xml"
cp index.html "$base/webapps/ROOT"
export CATALINA_HOME=/usr/share/tomcat10 CATALINA_BASE="$base" CATALINA_TMPDIR="$base/temp"
exec /usr/share/tomcat10/bin/catalina.sh run
