-- set_ordered: have the jobs of group $1 behind one that fails wait or not, as $2 says; $3 asked for it.

select pgqueue.set_ordered($1, $2, $3)
