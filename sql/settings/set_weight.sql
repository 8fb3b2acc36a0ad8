-- set_weight: give key $2 of the fair queue $1 as many windows as $3 says, null: one; $4 asked for it.

select pgqueue.set_weight($1, $2, $3, $4)
